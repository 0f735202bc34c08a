"""A sign that no program fills in a form: an unnoticed computation, a plain question, or digits to see and hear."""

from .challenge import LIFE_MS, READINGS
from .gate import QUESTIONS_PER_HOUR, RENEW, Captcha

__all__ = ["LIFE_MS", "QUESTIONS_PER_HOUR", "READINGS", "RENEW", "Captcha"]
