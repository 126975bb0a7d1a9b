"""Use a trained model in Python: scores and predictions for any image and any class names.

from trainers.classifier import load

classifier = load("output/.../seed1")  # the output folder of a run
for name, score in classifier.predict("photo.jpg", top_k=3)[0]:
    print(f"{score:6.1%}  {name}")
"""

from .classifier import Classifier, Prediction
from .loading import load

__all__ = ["Classifier", "Prediction", "load"]
