"""What a test can claim of costs and private text: the pytest plugin's work, imported only where it is used."""
