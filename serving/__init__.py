"""What runs an exported bundle: configuration for TensorFlow Serving, and an embedded model server."""
