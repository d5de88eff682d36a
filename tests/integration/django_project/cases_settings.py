"""The settings of a project, and what tests change of them; Django's test runner runs these."""

from django.test import SimpleTestCase, override_settings
from shop.tasks import add

import streamq
from streamq.contrib.django import app


class SettingsCases(SimpleTestCase):
    def test_the_app_of_the_project_is_the_default_one(self):
        self.assertIs(streamq.default_app(), app)
        self.assertIs(add.sender, app)
        self.assertEqual(app.name, "project")
        self.assertEqual(app.conf.result_expires, 600)

    def test_the_tasks_of_all_installed_apps_are_found(self):
        self.assertIn("shop.tasks.ship", app.tasks)

    def test_a_setting_that_a_test_overrides_counts_until_its_end(self):
        with override_settings(STREAMQ={"TASK_ALWAYS_EAGER": True}):
            self.assertEqual(add.enqueue(1, 2).get(), 3)
            self.assertEqual(app.conf.result_expires, 86400)
        self.assertFalse(app.conf.task_always_eager)
        self.assertEqual(app.conf.result_expires, 600)

    def test_a_wrong_setting_is_named(self):
        for wrong, said in {
            "TASK_TIME_LIMTI": "unknown setting 'TASK_TIME_LIMTI'(.|\n)*'TASK_TIME_LIMIT'",
            "lease": "in upper case: 'lease'(.|\n)*write 'LEASE'",
            "LEASE": "lease",
        }.items():
            with (
                self.assertRaisesRegex(streamq.ConfigError, said),
                override_settings(STREAMQ={wrong: "often"}),
            ):
                pass
        self.assertEqual(app.conf.result_expires, 600)
