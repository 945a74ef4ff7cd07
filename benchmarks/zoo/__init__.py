"""The zoo: every classification builder of torchvision under the gate."""
