"""All mutants: scripts with one thing wrong, which the machine must see; by subject."""

from tests.model.follow_mutants import FOLLOWING, LATE
from tests.model.people_mutants import PEOPLE
from tests.model.publish_mutants import PRODUCERS
from tests.model.recover_mutants import DYING
from tests.model.reuse_mutants import USED_AGAIN
from tests.model.settle_mutants import CONSUMERS

MUTANTS = [*PRODUCERS, *CONSUMERS, *FOLLOWING, *LATE, *DYING, *PEOPLE, *USED_AGAIN]
