def told() -> str:
    return ""
