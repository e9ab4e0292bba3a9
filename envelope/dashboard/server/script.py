"""The script that Streamlit runs for each session and each change.

It stands apart from the folder ``pages``, which Streamlit would else take for pages of its own kind.
"""

from envelope.dashboard.app import main

if __name__ == "__main__":
    main()
