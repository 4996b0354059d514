"""The way that Outlook goes to its mailbox, walked step by step: what is asked, what it means, what to do about it."""
