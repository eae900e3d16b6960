import sys

from hardware.gateway.server import main

sys.exit(main())
