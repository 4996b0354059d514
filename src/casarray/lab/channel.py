"""The RPC connection of the lab's clients: that of all others."""

from casarray.adapters.net.rpc_channel import Channel, RpcFault, no_linger

__all__ = ["Channel", "RpcFault", "no_linger"]
