"""Bundles: fedring and every package it needs on a board, ready to run, made on the desk."""
