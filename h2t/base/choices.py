"""Names to choose from, here and not beside their code, since that needs torch."""

# models; a name says everything: the depth, and for experts the method, their number and width
CIFAR_RESNETS = ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110")
IMAGENET_RESNETS = (
    *(f"resnet{depth}" for depth in (10, 18, 34, 50, 101, 152)),
    "resnext50",
)
RIDES = tuple(
    f"ride{k}_resnet{depth}{width}"
    for depth in (20, 32)
    for k in (2, 3, 4)
    for width in ("", "_narrow")
)
MODELS = (*CIFAR_RESNETS, *IMAGENET_RESNETS, *RIDES, "reslt_resnet20", "reslt_resnet32")
HEADS = ("linear", "cosine")

# fusion: swap is H2T; mixup blends all channels instead; noise and zeros swap in something that is
# no feature of any image, to ask whether it matters what the head lends; soft blends the swapped
# channels, each image by its distance to its class
FUSIONS = ("swap", "mixup", "noise", "zeros", "soft")

# what stage 2 trains
METHODS = ("crt", "lws", "tau", "mislas", "gcl")
LEARNED_SCALE = ("lws", "mislas")  # a factor per class
