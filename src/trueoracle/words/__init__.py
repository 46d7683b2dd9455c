"""What everything else speaks in: specifications, masks, trials, shapes, seeds, errors. Nothing here knows a room above.

All but `examples` load without torch.
"""
