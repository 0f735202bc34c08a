"""A member's life: journeys and their steps, login, reissue, profile, reminders; the only writer of members.

A use case of the web opens its own short transactions and hashes passwords outside of them; what runs in batches (mail
facts, settling, the timetable) gets its transaction first and never commits.
"""
