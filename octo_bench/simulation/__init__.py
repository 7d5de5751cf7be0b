"""Gymnasium environments over robosuite."""
