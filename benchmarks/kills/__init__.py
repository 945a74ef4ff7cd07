"""Kills: real runs of train, export and predict, killed with SIGKILL at random moments; and what they leave."""
