"""Labelled images, made worse by kind and severity → what a model's answers are then worth."""
