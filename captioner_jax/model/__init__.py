"""The mathematics: attention, positions, encoder, decoder; no files, no devices."""
