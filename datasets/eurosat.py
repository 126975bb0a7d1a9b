"""EuroSAT: Sentinel-2 satellite images of 10 kinds of land use.

Helber et al., EuroSAT: A Novel Dataset and Deep Learning Benchmark for Land Use and Land Cover
Classification, 2019, https://github.com/phelber/EuroSAT (EuroSAT.zip, RGB, MD5
c8fa014336c82ac7804f0398fcb19387; the copy at Hugging Face has the same sum, while the certificate
of the official host, madm.dfki.de, has expired). The split file renames the folders: "AnnualCrop"
is "Annual Crop Land", and so on.
"""

from dassl.data.datasets import DATASET_REGISTRY

from .base import Counts, SplitDataset


@DATASET_REGISTRY.register()
class EuroSAT(SplitDataset):
    dataset_dir = "eurosat"
    image_dir = "2750"
    split_file = "split_zhou_EuroSAT.json"
    images_url = (
        "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip"
    )
    split_url = "https://drive.google.com/file/d/1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o"
    counts = Counts(classes=10, train=13_500, val=5400, test=8100)
    base_test = 4200
