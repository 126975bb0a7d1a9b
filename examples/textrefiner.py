"""TextRefiner in plain PyTorch: prompts of CLIP, learned without and with TextRefiner.

python examples/textrefiner.py --seed 1    # equations: docs/method.md
"""

import argparse
import json
import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(ROOT := Path(__file__).resolve().parents[1]))
import clip
from datasets.critters import Critters
from datasets.critters_world.folder import SPLIT_FILE, prepare_folder
from trainers.encode import ImageTokens, encode_image, encode_text, unit
from trainers.losses import class_logits, regularizer, salient_tokens, semantic_loss
from trainers.prompting.contexts import ContextPrompts
from trainers.refiner import TextRefiner

parser = argparse.ArgumentParser(description="Train prompts without and with TextRefiner.")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--epochs", type=int, default=20)
args = parser.parse_args()
model, preprocess = clip.load("critters-vit-t", device="cpu")
model.requires_grad_(False)
scale = model.logit_scale.exp()

# Critters is drawn on first use. The split lists the path, label and class name of each image.
folder = ROOT / "data" / "critters"
prepare_folder(Critters.plan, folder)
split = json.loads((folder / SPLIT_FILE).read_text())
names = [name for _, name in sorted({(label, name) for _, label, name in split["test"]})]
classes = {"base": names[: len(names) // 2], "new": names[len(names) // 2 :]}


def encode(items: list[tuple[str, int, str]]) -> ImageTokens:
    """Compute the tokens of the images once: the image encoder is frozen."""
    images = [preprocess(Image.open(folder / "images" / path)) for path, _, _ in items]
    return encode_image(model.visual, torch.stack(images), local=True)


random.seed(args.seed)
train = [[i for i in split["train"] if i[2] == name] for name in classes["base"]]
shots = [item for images in train for item in random.sample(images, 16)]
tokens, labels = encode(shots), torch.tensor([label for _, label, _ in shots])
tests = {part: [i for i in split["test"] if i[2] in classes[part]] for part in classes}
features = {part: unit(encode(items).pooled) for part, items in tests.items()}
for method in ("plain", "refined"):
    torch.manual_seed(args.seed)
    prompts = {k: ContextPrompts(model, v, ctx_init="a photo of a") for k, v in classes.items()}
    prompts["new"].ctx = prompts["base"].ctx  # one learned context for any class names
    refiner = TextRefiner(token_dim=model.visual.output_dim, dim=tokens.pooled.shape[1])
    parameters = [prompts["base"].ctx, *(refiner.parameters() if method == "refined" else ())]
    optimizer = torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=5e-4)
    for batch in (b for _ in range(args.epochs) for b in torch.randperm(len(labels)).split(32)):
        label, text = labels[batch], unit(encode_text(model, *prompts["base"]()))
        refined = refiner(text) if method == "refined" else text
        logits = class_logits(unit(tokens.pooled[batch]), refined, scale)
        loss = F.cross_entropy(logits, label)
        if method == "refined" and tokens.local is not None and tokens.saliency is not None:
            local = refiner.align(tokens.local[batch])
            refiner.cache.update(local)  # after the read in refiner(text)
            salient = salient_tokens(local, tokens.saliency[batch])
            loss = loss + semantic_loss(salient, text, label, scale) / 50
            loss = loss + 20 * regularizer(refined, text)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for part, items in tests.items():
        text = unit(encode_text(model, *prompts[part]()))
        text = refiner(text) if method == "refined" else text
        target = torch.tensor([classes[part].index(name) for _, _, name in items])
        accuracy = (class_logits(features[part], text, scale).argmax(1) == target).float().mean()
        print(f"{method}, {part} classes, test, seed {args.seed}: {100 * accuracy:.1f} %")
