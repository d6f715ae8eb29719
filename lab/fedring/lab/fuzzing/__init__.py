"""Bytes that nobody meant to send, for every decoder that takes bytes from outside.

The rule: any bytes give either a value that survives being written and read again, or the
package's own named error; never another exception, never endless time or memory.

    target      a decoder with its rule             targets (wire, files)
    mutations   damaged inputs out of whole ones    one seed, one input
    campaign    tries, finds, makes small           what a short run and a long one do
    corpus      the inputs kept in tests/fuzz       whole ones to start from, bad ones once found
"""
