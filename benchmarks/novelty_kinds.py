"""What the study of refusals keeps apart, and what came of it."""

HELD_OUT = ("jpeg", "crop", "bars", "gradient", "collimation", "window", "text", "translation")
"kinds of harm that chose nothing"
BEFORE = "block 4"
"what refused before the study"
CHOSEN = "blocks 4 | 2, both one length"
"what refuses since"
