"""Images: where they come from, how a long tail is cut from them, how they reach the device."""
