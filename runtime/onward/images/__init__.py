"""Images: decoding, resizing and MNIST's array format."""
