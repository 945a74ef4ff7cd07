"""The top floor: a model becomes a bundle, under the parity gate."""
