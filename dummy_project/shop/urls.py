"""Mount the shop's pages."""

from django.contrib.auth import views as auth
from django.urls import path

from . import views

app_name = "shop"
urlpatterns = [
    path("", views.home, name="home"),
    path("products/<slug:slug>/", views.product, name="product"),
    path("orders/", views.orders, name="orders"),
    path("orders/<str:number>/", views.order, name="order"),
    path("orders/<str:number>/refund/", views.refund, name="refund"),
    path("sign-up/", views.SignUp.as_view(), name="sign-up"),
    path(
        "log-in/",
        auth.LoginView.as_view(
            template_name="shop/log-in.html",
            redirect_authenticated_user=True,
        ),
        name="log-in",
    ),
    path("log-out/", auth.LogoutView.as_view(), name="log-out"),
]
