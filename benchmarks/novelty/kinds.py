"""What the study of refusals keeps apart, and what came of it."""

HELD_OUT = ("jpeg", "crop", "bars", "gradient", "collimation", "window", "text", "translation")
"kinds of harm that chose nothing"
BEFORE = "blocks 4 | 2, both one length"
"what refused before, chosen on one narrow network"
CHOSEN = "block 4 | 1, one length"
"what refuses since, chosen on that and on the default network of three seeds"
