"""Scripts that are copied into the folder of an exported model; they need neither torch nor prismhub."""
