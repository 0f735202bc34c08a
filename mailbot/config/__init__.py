"""Site and society files -> frozen values; the only reader of configuration files and of the environment."""

from mailbot.config.carriers import Carrier, Carriers
from mailbot.config.journey import Formula, Journey, Start
from mailbot.config.load import ConfigError, Directory, Problem, Route, Settings, load
from mailbot.config.site import Site, split_endpoint
from mailbot.config.society import HelpCase, HelpChannel, PasswordRule, Society

__all__ = [
    "Carrier",
    "Carriers",
    "ConfigError",
    "Directory",
    "Formula",
    "HelpCase",
    "HelpChannel",
    "Journey",
    "PasswordRule",
    "Problem",
    "Route",
    "Settings",
    "Site",
    "Society",
    "Start",
    "load",
    "split_endpoint",
]
