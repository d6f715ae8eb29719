"""Boards without boards: Debian systems that boot from the very files that a card would get.

A board is a container of systemd (`containers.py`), native and quick, also one with a card that a
power cut leaves without what was not synced (`card_containers.py`); or it is a whole machine
(`emulator.py`), which may start from a whole image (`boxes.py`). They run on trees of Debian's
packages that are built once and kept in the user's cache (`trees.py`), inside a network and mounts
of their own (`namespaces.py`), so that nothing of this machine is touched and nothing is left
behind. `scripts/board-lab` goes through the journey of docs/boards.md with them.
"""
