"""The policy: settings as a user writes them, and the frozen `NodePolicy` that holds at a node."""
