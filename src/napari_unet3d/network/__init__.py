"""The network and the model folder: the only room that imports Keras and TensorFlow."""
