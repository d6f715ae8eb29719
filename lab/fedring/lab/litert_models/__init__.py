"""The .tflite files that come along, as they are made on a desk with TensorFlow."""
