"""RPC over HTTP, version 2: one RPC connection made of two HTTP requests, IN and OUT. [MS-RPCH]"""
