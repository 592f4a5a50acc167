"""Shipped partonomies: one YAML file a category, installed as package data."""
