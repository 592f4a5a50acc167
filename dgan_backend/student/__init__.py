"""The student: small U-Nets that label pictures from outside directly, without inversion."""
