"""Images: decode and resize them; read MNIST's array format."""
