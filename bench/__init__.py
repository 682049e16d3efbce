"""Measurements of fastnn against itself and others."""
