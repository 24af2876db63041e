"""What secrets look like that somebody has issued: patterns that those who hide them and those who find them share."""

from __future__ import annotations

# As the issuers make them: Hugging Face, OpenAI and Anthropic, GitHub, GitLab, Slack, AWS, Google, npm, PyPI, Docker.
ISSUED_TOKEN = (
    r"(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}"
    r"|xox[abprs]-[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}"
    r"|dckr_pat_[\w-]{16,})")
PRIVATE_KEY_BEGIN = r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"
