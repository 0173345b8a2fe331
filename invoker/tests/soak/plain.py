"""An ordinary action."""


def main(event):
    print("asked for", event["x"])
    return {"least": event["x"], "most": event["x"]}
