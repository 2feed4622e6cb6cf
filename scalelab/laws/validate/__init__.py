"""How far to trust a fit: the largest scale left out, forms compared, assumptions varied.

settings (hold-out, beside baselines) · forms (AICc, grouped cross-validation, averaging) · sensitivity
"""
