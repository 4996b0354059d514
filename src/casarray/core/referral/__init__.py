"""What a server tells the clients that come to it: where their array is, whom the address book has, whose mailbox."""
