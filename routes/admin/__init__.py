"""Admin."""
from flask import Blueprint, Flask
bp = Blueprint("admin", __name__)
@bp.get("/admin/")
def index(): return "x"
def register(app: Flask) -> None:
    app.register_blueprint(bp)
