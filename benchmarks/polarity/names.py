"""What the study of inverted knees calls two of its tests."""

BEFORE = "all cells"
"what told inverted knees before the study"
CHOSEN = "the same, and no ramp"
"what tells them since"
