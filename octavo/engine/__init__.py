"""From texts and questions to tokens and back: the Python face of the model, its reading loop, its answers."""
