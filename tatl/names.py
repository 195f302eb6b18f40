"""Every public word once: masks, labels of tables, networks, sources, starts, variants, studies and their full rows.

Plain strings and tuples, so that command lines, tables and pages ask for the same words and import nothing heavy.
"""

from __future__ import annotations

# Masks of a store: the lesion (Stage 1), the union of all attributes (Stage 2, Eq. 4), and the attributes themselves.
LESION, UNION = "lesion", "union"
# The attributes of ISIC 2018 Task 2; 2017 has no globules.
SKIN_ATTRIBUTES = ("pigment_network", "globules", "milia_like_cyst", "negative_network", "streaks")
# Tasks that are no mask of a store.
TEXTURES, ROTATION, CONTEXT, SHUFFLED = "textures", "rotation", "context", "shuffled-union"
MULTILABEL = "multilabel"  # one network with an output for every attribute
PRETEXTS = (TEXTURES, ROTATION, CONTEXT, SHUFFLED, MULTILABEL)

# Rows of tables: the mean over attributes, all pixels of all attributes pooled, the averaged maps of the shapes.
AVERAGE, MICRO, ENSEMBLE = "average", "micro", "mean"
IMAGE_SCORES = ("image_jaccard", "image_dice")  # per image, then averaged
SCORES = ("jaccard", "dice", *IMAGE_SCORES)  # the first two pooled over a test fold
TRAINING = (  # what a row was trained with (`tatl.studies.results.training_of`), and how its loss ended (`pace.ending`)
    "steps", "images_seen", "seconds", "steps_in_all", "images_in_all", "seconds_in_all", "epoch_on_training",
    "best_last", "fall", "still_falling",
)  # fmt: skip

# Networks.
SHAPES = ("u", "link", "attention-u", "attention-link", "pyramid")  # decoders, for any backbone
PLAIN = "plain"  # a backbone of no source domain
# Networks of one backbone each, which is what their runs are called by: segnet-vgg16_bn-random.
RIVALS = {"isic2017-winner": "vgg16", "segnet": "vgg16_bn", "unet": PLAIN, "mask-rcnn": "resnet50"}
ISIC2018_WINNER = ("resnet152", "densenet169", "xception", "inceptionresnetv2")  # "pyramid" on each, averaged
WINNERS = {"isic2017-winner": (RIVALS["isic2017-winner"],), "isic2018-winner": ISIC2018_WINNER}  # their backbones
LITE0, B0 = "efficientnet-lite0", "efficientnet-b0"
SOURCES = ("textures", "imagenet", "random")

# Variants of TATL (Tables 3 and 4), and the lesion network alone.
STAGE1 = "stage1"
VARIANTS = ("stage3", "stage23", "stage13", "stage123", "stage123-scratch")
# Starts of a target segmenter (Table 9): the paper's, then controls that it lacks, then the whole of TATL.
CONTROLS = ("source-long", MULTILABEL, "multilabel-direct", "lesion", "shuffled-union", "frozen-random")
STARTS = (
    "tatl", "tatl-freeze", "source", "source-long", "rotation", "context", "augmentation", "random",
    "attention", MULTILABEL, "multilabel-direct", "lesion", "shuffled-union", "frozen-random", TEXTURES, "stage123",
)  # fmt: skip
BOUND_STARTS = ("random", "source", "rotation", "context", "tatl")  # Figure 7

# The other studies: what their rows are where nothing is left out.
LESION_NETWORKS = ("u", "unet", "segnet", "mask-rcnn")  # Table 5
OFFSETS = (0, 20, 40, 60)  # Table 5: pixels round the lesion's box
BACKBONES = ("vgg16", "resnet152", "inceptionresnetv2", "densenet169", B0)  # Tables 6-8
BACKBONE_STARTS = ("source", "tatl-freeze", "tatl")
SIZE_STARTS = ("tatl", "tatl-scratch", "source")  # Figure 4
FRACTIONS = (1.0, 0.8, 0.6, 0.4)  # of the training groups
PRETEXT = "pretext"  # the row of Figures 5 and 6 that is no target: what TATL starts from
CONVERGENCE_ROWS = (PRETEXT, "tatl", "source", "random")
