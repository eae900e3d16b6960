"""Whether an emulator comes before other processes is for its flag to say."""

import os
import subprocess
import sys


def test_without_the_flag_it_is_a_process_like_others(tmp_path):
    words = [sys.executable, "-m", "hardware.emulators", "so101", "--link", str(tmp_path / "port")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline().startswith(b"/dev/")
            assert os.sched_getscheduler(process.pid) == os.sched_getscheduler(0)
        finally:
            process.terminate()
