"""What runs in OpenCompass's environment: it may import OpenCompass, and of AutoAlign the sandbox alone."""
