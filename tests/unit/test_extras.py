"""Optional parts say how to install them."""

import pytest

from streamq.errors import ConfigError
from streamq.host.extras import require


def test_a_part_that_is_there_is_just_there():
    require("json", "yaml")


def test_a_part_that_is_missing_says_the_command():
    with pytest.raises(ConfigError) as refused:
        require("no_such_library", "gevent")

    assert "no_such_library is not installed" in str(refused.value)
    assert 'pip install "streamq[gevent]"' in str(refused.value)
