"""Gradio console: slates with their candidates, experiments, and relevance judgments."""
