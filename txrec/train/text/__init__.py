"""Text encoder training: masked-token pre-training and contrastive fine-tuning."""
