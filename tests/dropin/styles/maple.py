"""In the style of MaPLe, ATPrompt and MMRL: they call functions of a changed clip/."""

from clip import clip
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.utils import load_checkpoint

DETAILS = {"trainer": "MaPLe", "vision_depth": 0, "language_depth": 0, "maple_length": 2}


class _Loads(TrainerX):
    """Loads the weights as all of them do, and builds the model in its own way."""

    def build_model(self):
        url = clip._MODELS[self.cfg.MODEL.BACKBONE.NAME]
        self.model = self.build(load_checkpoint(clip._download(url)))


@TRAINER_REGISTRY.register()
class StyleMaPLe(_Loads):
    def build(self, state_dict):
        return clip.build_model(state_dict, DETAILS)


@TRAINER_REGISTRY.register()
class StyleMMRL(_Loads):
    def build(self, state_dict):
        return clip.build_model_MMRL(state_dict, DETAILS)
