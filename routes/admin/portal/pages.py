"""The views of the portal, in the order of the menu."""

from routes.admin.portal import Portal
from routes.admin.portal.asking import Requests
from routes.admin.portal.base import PortalView
from routes.admin.portal.batches import OwnBatches
from routes.admin.portal.dialogs import OwnDialogs
from routes.admin.portal.keys import OwnKeys
from routes.admin.portal.profile import Profile
from routes.admin.portal.team import TeamPages
from routes.admin.portal.topup import TopUp
from routes.admin.texts import N_


def own_pages() -> tuple[PortalView, ...]:
    """Views for everybody who has signed in."""
    return (
        Portal(N_("Your account"), endpoint="portal", url="/portal"),
        OwnKeys(N_("Your keys"), endpoint="mykeys", url="/portal/keys"),
        OwnDialogs(N_("Your dialogs"), endpoint="mydialogs", url="/portal/dialogs"),
        OwnBatches(N_("Your batches"), endpoint="mybatches", url="/portal/batches"),
        Requests(N_("Your requests"), endpoint="asking", url="/portal/requests"),
        TopUp(N_("Top up"), endpoint="topup", url="/portal/top-up"),
        TeamPages(N_("Your team"), endpoint="myteam", url="/portal/team"),
        Profile(N_("Profile"), endpoint="profile", url="/portal/profile"),
    )
