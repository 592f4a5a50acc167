"""Generator files of other projects: read without running anything of them, then converted.

`pickles` reads opcodes, `allowed` says which names may occur, `stored` holds what they stand for,
`torch_files` are the two layouts of torch.save. Each other module is one format.
"""
